"""The ear's contract: what an audio encoder must keep so that the joint model can use it.

An ear is a `PreTrainedModel` registered with `AutoModel`, and its configuration has

* `hidden_size`: width of a frame feature,
* `sampling_rate`: Hz that it wants,
* `min_samples`: the fewest samples that give a frame,
* `num_frames(num_samples) -> int`: frames that a clip of that length gives.

`forward(input_values, padding_mask)` takes a waveform and returns `EarOutput`. Nothing else
is asked: the joint model works with any such ear, trained or frozen.

An ear with labels of its own may offer `label_count` in its configuration, `label_names() -> tuple[str, ...]` and
`label_scores(frames) -> Tensor` (..., labels); the projector can then spell out what it takes a clip for. A frozen
ear may offer `hear(samples) -> array` (frames, hidden_size) of one clip, so that training hears where it loads. One whose
first step has no weights may offer it as `normalised_fbank(input_values) -> Tensor` (batch, frames, bins), and take what
it gave as `fbank` in `forward`: it can then be made ahead.
"""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class EarOutput(ModelOutput):
    """What an ear hears.

    last_hidden_state: (batch, frames, hidden_size) features in time order.
    frame_mask: (batch, frames) bool, True where a frame holds sound rather than padding.
    """

    last_hidden_state: Tensor | None = None
    frame_mask: Tensor | None = None
