"""Every way in which the model refuses an input, each with a code that travels into the record."""


class ModelError(Exception):
    """The model could not do what was asked."""

    code = "model_error"


class UnreadableImage(ModelError):
    """The bytes are not an image that can be decoded."""

    code = "unreadable_image"


class BlankImage(ModelError):
    """The image holds no ink, or too little to be a signature."""

    code = "blank_image"


class ImageTooLarge(ModelError):
    """The image declares more pixels than the limit allows."""

    code = "image_too_large"


class DecodingTooLarge(ModelError):
    """Decoding the document takes more memory than is allowed."""

    code = "decoding_too_large"


class DecodingTooLong(ModelError):
    """Decoding the document takes more time than is allowed."""

    code = "decoding_too_long"


class DecoderCrashed(ModelError):
    """The document stopped the decoder itself, a fresh one too."""

    code = "decoder_crashed"


class PageNotFound(ModelError):
    """The document has no page of that number."""

    code = "page_not_found"


class RegionOutside(ModelError):
    """The region does not lie within the page."""

    code = "region_outside_page"


class PreprocessingError(ModelError):
    """The preprocessing named by the checkpoint cannot be run here."""

    code = "preprocessing_error"


class BackboneError(ModelError):
    """The backbone cannot be built."""

    code = "backbone_error"


class CheckpointError(ModelError):
    """The checkpoint cannot be used."""

    code = "checkpoint_error"


class CheckpointNotFound(CheckpointError):
    """There is no checkpoint at that path."""


class CheckpointNotPinned(CheckpointError):
    """The file is another one than the sha256 that was asked for."""


class CheckpointUnreadable(CheckpointError):
    """The file is truncated or is not a checkpoint."""


class CheckpointIsTorchScript(CheckpointError):
    """The file is a TorchScript archive, not a state dict."""


class CheckpointKeyMissing(CheckpointError):
    """The checkpoint lacks a key that every checkpoint has."""


class CheckpointMismatch(CheckpointError):
    """The weights do not fit the network that the checkpoint names."""


class DatasetError(ModelError):
    """The dataset cannot be used for what was asked."""

    code = "dataset_error"


class FileNotWritten(ModelError, OSError):
    """A file could not be written; what stood there before still does. Also an OSError."""

    code = "file_not_written"

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {self.strerror}."


class TrainingError(ModelError):
    """Training cannot start or go on."""

    code = "training_error"
