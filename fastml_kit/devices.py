"""FPGA parts as data: what each one holds, and who says so."""

from dataclasses import dataclass

from fastml_kit.errors import unknown_name


@dataclass(frozen=True)
class Device:
    """Totals of one FPGA part. `bram36` counts 36 Kb blocks (ECP5: its 18 Kb blocks, halved)."""

    part: str
    target: str  # the synthesis family: "xc7" or "ecp5"
    lut: int  # 6-input LUTs on xc7, 4-input LUTs on ecp5: not comparable across families
    ff: int
    dsp: int
    bram36: float
    found_on: str
    source: str


DEVICES = {
    device.part: device
    for device in (
        Device(
            "xc7z020", "xc7", 53_200, 106_400, 220, 140, "Pynq-Z2", "AMD DS190, Zynq-7000 overview"
        ),
        Device(
            "xc7a100t",
            "xc7",
            63_400,
            126_800,
            240,
            135,
            "Arty A7-100T",
            "AMD DS180, 7-series overview",
        ),
        Device(
            "lfe5u-85f",
            "ecp5",
            83_640,
            83_640,
            156,
            104,
            "ULX3S-85F",
            "nextpnr-ecp5 utilisation report",
        ),
    )
}


def get(part: str) -> Device:
    """Return the device named `part`.

    Raises:
        BadRequest: there is no such part in the table.
    """
    if part not in DEVICES:
        raise unknown_name("device", part, DEVICES)
    return DEVICES[part]


def of_part(name: str) -> Device:
    """Return the device of a part as vendors' tools name it, package and speed grade included.

    Raises:
        BadRequest: the table has no such device.
    """
    for device in DEVICES.values():
        if name.startswith(device.part):
            return device
    raise unknown_name("device", name, DEVICES)
