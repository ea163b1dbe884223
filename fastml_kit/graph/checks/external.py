"""Tensors that an ONNX file keeps in files beside it, read in under the same checks as the rest."""

from pathlib import Path
from typing import Any

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.checks.structure import constants


def bring_in(model: Any, folder: Path, limit: int) -> None:
    """Read the external data of `model` into it; files must lie in `folder` or below.

    Raises:
        UnsupportedModel: a file is missing, too short, elsewhere, or all of it is over `limit`
            bytes.
    """
    from onnx import TensorProto

    total = 0
    for where, tensor in constants(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            if tensor.external_data:
                raise UnsupportedModel(f"{where} names external data but does not use them")
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = _slice(where, entries, folder.resolve(), limit - total)
        total += len(data)
        tensor.raw_data = data
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _slice(where: str, entries: dict[str, str], folder: Path, limit: int) -> bytes:
    location = entries.get("location", "")
    try:
        path = (folder / location).resolve()
        inside = bool(location) and path.is_relative_to(folder) and not Path(location).is_absolute()
        offset = int(entries.get("offset", "0"))
        size = path.stat().st_size if inside and path.is_file() else -1
        length = int(entries.get("length", max(size - offset, 0)))
    except (OSError, ValueError, RuntimeError) as error:
        raise UnsupportedModel(
            f"{where} has external data that cannot be found: {error}"
        ) from error
    if not inside:
        raise UnsupportedModel(
            f"{where} keeps its data in {location!r}, outside the model's folder; put the file "
            "beside the model"
        )
    if size < 0:
        raise UnsupportedModel(
            f"{where} keeps its data in {location!r}, which is missing; put it beside the model"
        )
    if offset < 0 or length < 0 or offset + length > size or length > limit:
        raise UnsupportedModel(
            f"{where} wants {length} bytes from byte {offset} of {location!r}, which has {size}; "
            f"at most {limit} more may be read"
        )
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
