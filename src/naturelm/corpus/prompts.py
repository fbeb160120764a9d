"""How questions are worded. The first wording of each is the one that held-out rows use.

Invented animals are asked about in words of their own ("invented"): asked about both in the same
words, a small model gives a cow a whistler's name.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Wording:
    """One question in several wordings."""

    real: tuple[str, ...]
    """Asked about real sounds."""
    invented: tuple[str, ...] = ()
    """Asked about the synthetic fauna; empty where a question is never asked about it."""

    def choose(self, rng: np.random.Generator, *, invented: bool, first: bool) -> str:
        """One wording: any, or the first."""
        wordings = self.invented if invented else self.real
        return wordings[0] if first else str(rng.choice(wordings))


OPTION_LISTS = Wording(
    real=(
        "{question} Options: {options}.",
        "{question} Choose from: {options}.",
        "{question} It is one of the following: {options}.",
        "{question} Answer with one of: {options}.",
        "Options: {options}. {question}",
    )
)
"""How a list of options is added to a question; it has one true answer."""

COMMON_NAME = Wording(
    real=(
        "What is the common name for the focal species in the audio?",
        "Give the common name of the animal that is heard.",
        "Which animal is this? Answer with its common name.",
        "Name the species that calls in this recording, by its common name.",
        "What animal makes this sound?",
        "Identify the main animal in the clip. Common name only.",
        "By what common name is the calling animal known?",
        "What do you hear calling here? Give a common name.",
    ),
    invented=(
        "What is the common name for the focal invented species in the audio?",
        "Give the common name of the invented animal that is heard.",
        "Which invented animal is this? Answer with its common name.",
        "Name the invented species that calls in this recording, by its common name.",
        "An invented animal calls. What is its common name?",
        "Identify the invented animal in the clip. Common name only.",
        "By what common name is this invented animal known?",
        "Which of the invented animals do you hear? Give its common name.",
    ),
)
SCIENTIFIC_NAME = Wording(
    real=(
        "What is the scientific name for the focal species in the audio?",
        "Give the scientific name of the animal that is heard.",
        "Which species is this? Answer with its scientific name.",
        "Name the calling species in Latin.",
        "Identify the animal in the clip. Binomial name only.",
        "Which binomial name belongs to the animal in this recording?",
    ),
    invented=(
        "What is the scientific name for the focal invented species in the audio?",
        "Give the scientific name of the invented animal that is heard.",
        "Which invented species is this? Answer with its scientific name.",
        "Name the invented species in Latin.",
        "Identify the invented animal in the clip. Binomial name only.",
        "Which binomial name belongs to this invented animal?",
    ),
)
TAXONOMIC_NAME = Wording(
    real=(
        "What is the taxonomic name of the focal species in the audio?",
        "Give the full taxonomic name of the animal that is heard: phylum, class, order, family, genus, species.",
        "Classify the calling animal from phylum down to species.",
        "What is the complete classification of the species in this clip?",
    ),
    invented=(
        "What is the taxonomic name of the focal invented species in the audio?",
        "Give the full taxonomic name of the invented animal: phylum, class, order, family, genus, species.",
        "Classify the invented animal from phylum down to species.",
        "What is the complete classification of the invented species in this clip?",
    ),
)
GENUS = Wording(
    real=(
        "What is the genus of the focal species in the audio?",
        "To which genus does the calling animal belong?",
        "Name the genus of the animal that is heard.",
        "Give the genus of the species in this recording.",
    ),
    invented=(
        "What is the genus of the focal invented species in the audio?",
        "To which genus does the invented animal belong?",
        "Name the genus of the invented animal that is heard.",
        "Give the genus of the invented species in this recording.",
    ),
)
FAMILY = Wording(
    real=(
        "What is the family of the focal species in the audio?",
        "To which family does the calling animal belong?",
        "Name the taxonomic family of the animal that is heard.",
        "Give the family of the species in this recording.",
    ),
    invented=(
        "What is the family of the focal invented species in the audio?",
        "To which family does the invented animal belong?",
        "Name the taxonomic family of the invented animal that is heard.",
        "Give the family of the invented species in this recording.",
    ),
)
DETECTION = Wording(
    real=(
        "What are the common names for the species in the audio, if any?",
        "Which animals can be heard? List their common names, or answer None.",
        "List every species that is audible in this clip by common name. If there is none, answer None.",
        "Are there animals in this recording? Give their common names, or None.",
        "Name all the animals that you hear, separated by commas, or None.",
        "Who calls here? Common names, or None if nobody does.",
    ),
    invented=(
        "What are the common names for the invented species in the audio, if any?",
        "Which invented animals can be heard? List their common names, or answer None.",
        "List every invented species that is audible in this clip by common name. If there is none, answer None.",
        "Are there invented animals in this recording? Give their common names, or None.",
        "Name all the invented animals that you hear, separated by commas, or None.",
        "Which invented animals call here? Common names, or None if none does.",
    ),
)
DETECTION_OPTIONS = Wording(
    real=(
        "Which of these, if any, are present in the audio recording? {options}",
        "Which of the following animals can be heard, if any? {options}",
        "From this list, name every animal that calls in the clip, or answer None: {options}",
        "Do any of these call in the recording? {options}. Name them, or answer None.",
        "Here is a list: {options}. Which of them do you hear? Answer None if there is none.",
    ),
    invented=(
        "Which of these invented species, if any, are present in the audio recording? {options}",
        "Which of the following invented animals can be heard, if any? {options}",
        "From this list, name every invented animal that calls in the clip, or answer None: {options}",
        "Do any of these invented animals call in the recording? {options}. Name them, or answer None.",
        "Here is a list of invented animals: {options}. Which of them do you hear? Answer None if there is none.",
    ),
)
SEVERAL = Wording(
    real=(
        "Several species can be heard in the audio. What are their common names?",
        "More than one species calls in this clip. Name them all by common name.",
        "List the common names of the different animals in this recording.",
        "Which animals call together here? Common names, separated by commas.",
    ),
    invented=(
        "Several invented species can be heard in the audio. What are their common names?",
        "More than one invented species calls in this clip. Name them all by common name.",
        "List the common names of the different invented animals in this recording.",
        "Which invented animals call together here? Common names, separated by commas.",
    ),
)
CAPTION = Wording(
    real=(
        "Caption the audio, using the common name for any animal species.",
        "Caption the audio.",
        "Describe what is heard in one sentence.",
        "Write a caption for this recording.",
        "Say in a sentence what this clip contains.",
    ),
    invented=(
        "Caption the audio, using the common name for any invented animal species.",
        "Caption the audio, naming the invented animals in it.",
        "Describe in one sentence which invented animal is heard, and how it calls.",
        "Write a caption for this recording of an invented animal.",
        "Say in a sentence which invented animal this clip contains and what it does.",
    ),
)
LIFE_STAGE = Wording(
    real=(
        "What is the life stage of the focal species in the audio?",
        "How old is the calling animal: which life stage?",
        "Name the life stage of the animal that is heard.",
        "At which stage of life is the animal in this recording?",
    ),
    invented=(
        "What is the life stage of the focal invented species in the audio?",
        "Which life stage is the calling invented animal in?",
        "Name the life stage of the invented animal that is heard.",
        "At which stage of life is the invented animal in this recording?",
    ),
)
CALL_TYPE = Wording(
    real=(
        "What call type is heard from the focal species in the audio?",
        "Which kind of vocalisation is this?",
        "Name the type of call that is heard.",
        "What sort of call does the animal give?",
    ),
    invented=(
        "What call type is heard from the focal invented species in the audio?",
        "Which kind of call does the invented animal give?",
        "Name the type of call that the invented animal gives.",
        "What sort of call is this, of an invented animal?",
    ),
)
SEX = Wording(
    real=(
        "What is the sex of the focal animal in the audio?",
        "Is the calling animal male or female?",
        "Name the sex of the animal that is heard.",
    )
)
ONE_OR_MORE = Wording(
    real=(
        "Is one individual calling in the audio, or more? Answer One or More.",
        "Do you hear one animal or several of its kind? Answer One or More.",
        "One individual or more? Answer One or More.",
    ),
    invented=(
        "Is one invented animal calling in the audio, or more? Answer One or More.",
        "Do you hear one invented animal or several of its kind? Answer One or More.",
        "One invented animal or more? Answer One or More.",
    ),
)
COUNT = Wording(
    real=(
        "How many individuals of the focal species are calling in the audio?",
        "Count the individuals that can be heard.",
        "How many animals of this species are there? Answer with a number.",
    ),
    invented=(
        "How many individuals of the focal invented species are calling in the audio?",
        "Count the invented animals that can be heard.",
        "How many animals of this invented species are there? Answer with a number.",
    ),
)
ENVIRONMENT = Wording(
    real=(
        "What sound is heard in the audio?",
        "Name the sound in this clip.",
        "Which everyday sound is this?",
        "What is the source of this sound?",
        "What can be heard here?",
    )
)
SPEAKER_COUNT = Wording(
    real=(
        "How many speakers are heard in the audio?",
        "How many people speak in this clip? Answer with a number.",
        "Count the different speakers.",
    )
)
SPEAKER_SEX = Wording(
    real=(
        "Is the speaker in the audio male or female?",
        "Does a man or a woman speak? Answer male or female.",
        "What is the sex of the speaker?",
    )
)
SPEAKER_PITCH = Wording(
    real=(
        "Is the voice in the audio low, medium or high in pitch?",
        "How high is the speaker's voice: low, medium or high?",
        "Describe the pitch of the voice: low, medium or high.",
    )
)
TRANSCRIPT = Wording(
    real=(
        "What is said in the audio?",
        "Write down what the speaker says.",
        "Transcribe the speech.",
    )
)
INSTRUMENT = Wording(
    real=(
        "What is the instrument family of the note in the audio?",
        "Which family of instruments plays this note?",
        "To which family does the instrument belong?",
        "Name the kind of instrument that is heard.",
    )
)
NOTE_PITCH = Wording(
    real=(
        "What is the pitch of the note in the audio?",
        "Which note is played? Give its name and octave.",
        "Name the note that is heard, with its octave.",
    )
)
