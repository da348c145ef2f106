"""Every way in which state can refuse or fail, each with a code that travels into the record.

`Transient` marks what may well work a moment later and is worth another try; everything else
fails the same way each time.
"""


class StorageError(Exception):
    """The stored state could not do what was asked."""

    code = "storage_error"


class Transient(StorageError):
    """Something that storage depends on is away; the same request may succeed later."""

    code = "storage_away"


class StoreUnavailable(Transient):
    """The folder or object store that holds the images does not answer."""

    code = "store_unavailable"


class DatabaseUnavailable(Transient):
    """The database does not answer, or broke the connection off."""

    code = "database_unavailable"


class InvalidDatabaseUrl(StorageError):
    """The database URL cannot be used."""

    code = "invalid_database_url"


class DatabaseNotMigrated(StorageError):
    """The database lacks tables or columns: its migrations have not been run."""

    code = "database_not_migrated"


class InvalidSignerId(StorageError):
    """The text cannot name a signer."""

    code = "invalid_signer_id"


class UnknownSigner(StorageError):
    """No signer of that name has been enrolled."""

    code = "unknown_signer"


class SignerRetired(StorageError):
    """The signer has been retired; nothing is compared with or added to it."""

    code = "signer_retired"


class SignerErased(SignerRetired):
    """The signer's references were erased on request; only the name is left."""

    code = "signer_erased"


class UnknownReference(StorageError):
    """There is no reference of that number."""

    code = "unknown_reference"


class NoReferences(StorageError):
    """The signer has no live reference to compare with."""

    code = "no_references"


class UnknownModel(StorageError):
    """No model of that digest has been registered."""

    code = "unknown_model"


class ModelAltered(StorageError):
    """The record of a model contradicts the checkpoint of the same digest."""

    code = "model_altered"


class ModelMismatch(StorageError):
    """The signer's references were embedded by other models than the one in use."""

    code = "model_mismatch"


class ModelChanged(Transient):
    """Another model has become the active one meanwhile; the same work can be done with it."""

    code = "model_changed"


class NoActiveModel(StorageError):
    """The registry has no model that decides."""

    code = "no_active_model"


class ModelNotSealed(StorageError):
    """That the model is active was not entered in the record with the record's key."""

    code = "model_not_sealed"


class ModelInUse(StorageError):
    """What the model is used for forbids the change."""

    code = "model_in_use"


class ModelIncomplete(StorageError):
    """The model has not embedded every reference that is in use."""

    code = "model_incomplete"


class ActivationUnderWay(StorageError):
    """Another model is on its way to become the active one."""

    code = "activation_under_way"


class UnknownRun(StorageError):
    """There is no training run of that id."""

    code = "unknown_run"


class RunEnded(StorageError):
    """The training run has ended; nothing more is done about it."""

    code = "run_ended"


class RunHeld(Transient):
    """Another worker is at the training run, or was a moment ago."""

    code = "run_held"


class InvalidVector(StorageError):
    """The numbers are not a finite vector of the stated dimensions."""

    code = "invalid_vector"


class InvalidJob(StorageError):
    """The job's own fields cannot be stored."""

    code = "invalid_job"


class UnknownJob(StorageError):
    """There is no job of that id."""

    code = "unknown_job"


class JobConflict(StorageError):
    """The job id is taken by a job that asks about another signer or document."""

    code = "job_conflict"


class InvalidDecision(StorageError):
    """The decision contradicts itself, for example an acceptance without a score."""

    code = "invalid_decision"


class CannotLabel(StorageError):
    """The job has no verdict that a person could confirm or correct."""

    code = "cannot_label"


class InvalidFilter(StorageError):
    """The question put to the record makes no sense."""

    code = "invalid_filter"


class InvalidSignOff(StorageError):
    """The file is no sign-off, or not one that was made with a key that is known."""

    code = "invalid_sign_off"


class InvalidUri(StorageError):
    """The URI is not one of `s3://bucket/key` and `file:///path`."""

    code = "invalid_uri"


class ImageForbidden(StorageError):
    """The URI lies outside the allowed buckets and folders."""

    code = "uri_not_allowed"


class StoreRefused(ImageForbidden):
    """The store denies access: the credentials or the permissions are wrong."""

    code = "store_refused"


class ImageNotFound(StorageError):
    """There is no image at that URI."""

    code = "image_not_found"


class ImageAltered(StorageError):
    """What lies there is no longer the image that was enrolled or looked at."""

    code = "image_altered"


class ImageTooBig(StorageError):
    """The image holds more bytes than the limit allows."""

    code = "document_too_large"
