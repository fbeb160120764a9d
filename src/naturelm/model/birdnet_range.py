"""Where and when BirdNET's species occur: its own small model of latitude, longitude and week."""

from pathlib import Path

import numpy as np

from naturelm.errors import CheckpointError
from naturelm.model.birdnet_files import RANGE_FILE, birdnet_range_folder
from naturelm.model.birdnet_parts import FloatArray

_ALL_YEAR = -1


class BirdNetRange:
    """The model, opened on first use. folder: of its file; the cache's when None."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def occurrence(self, latitude: float, longitude: float, week: int | None = None) -> FloatArray:
        """How often each label is reported there, (6,522,) from 0 to 1, in the order of BirdNET's labels.

        latitude, longitude: degrees. week: of 48 in a year; None for the year as a whole.
        Raises CheckpointError where the file, or the package that reads it, is missing.
        """
        file = (self._folder or birdnet_range_folder()) / RANGE_FILE
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise CheckpointError(
                "BirdNET is read with ai-edge-litert, which is not installed: pip install 'naturelm[birdnet]'"
            ) from error
        interpreter = Interpreter(str(file), num_threads=1)
        interpreter.allocate_tensors()
        asked = np.array([[latitude, longitude, _ALL_YEAR if week is None else week]], dtype=np.float32)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], asked)
        interpreter.invoke()
        found: FloatArray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].copy()
        return found
