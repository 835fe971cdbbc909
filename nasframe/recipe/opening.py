"""A trained network from wherever one was left."""

from pathlib import Path

from nasframe.core import Predictor
from nasframe.errors import FormatError
from nasframe.recipe.model_folder import CONFIG, read_model_folder
from nasframe.recipe.result import open_run
from nasframe.recipe.run_directory import no_run


def load(folder: str | Path) -> Predictor:
    """A trained network, from the folder that ``nasframe export --format hub`` wrote, or a finished run.

    Nothing in the folder is run: it is read as plain data, and its network is built of components that are
    installed here.

    Args:
        folder: One of the two.

    Returns:
        What predicts for files; its ``network`` is in evaluation mode on the CPU.

    Raises:
        FormatError: The folder is neither, or not what it must be; the message says what.
    """
    path = Path(folder)
    if (path / "recipe.yaml").is_file():
        return open_run(path).predictor()
    if (path / CONFIG).is_file():
        return read_model_folder(path)
    raise FormatError(
        f"{path}: {no_run(path)}; a model folder (with {CONFIG}) does as well, such as "
        "`nasframe export RUN_DIR --format hub` writes"
    )
