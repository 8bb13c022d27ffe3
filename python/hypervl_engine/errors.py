"""The errors of this package; the compiled module raises these same classes."""


class HyperVLError(RuntimeError):
    """Something in the engine failed; the message says what was expected, what came and what to do."""


class CheckpointError(HyperVLError):
    """A model file is not what it should be: damaged, incomplete, or of a kind this engine does not run."""


class CancelledError(HyperVLError):
    """The call was cancelled."""


class DeviceError(HyperVLError):
    """A device other than this processor is not there, refused a session, or failed; the message says what to do."""
