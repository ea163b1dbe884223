"""Constraints of a board's top, from the pins of its file: LPF for nextpnr, XDC for Vivado."""

from fastml_kit.boards.table import Board


def of(board: Board, top: str) -> dict[str, str]:
    """Return the constraints of the top for `board`: file name -> text."""
    return {f"{top}.lpf": lpf(board)} if board.family == "ecp5" else {f"{top}.xdc": xdc(board)}


def lpf(board: Board) -> str:
    """Return the constraints that nextpnr-ecp5 reads: pins, their standard, and the clock."""
    lines = [f"# {board.title}, {board.part}: pins from {board.sources['clock'].split(',')[0]}"]
    for port, pin in board.pins().items():
        pull = "UP" if port == "rx" else "NONE"  # a line that nobody drives must look idle
        lines += [
            f'LOCATE COMP "{port}" SITE "{pin}";',
            f'IOBUF PORT "{port}" PULLMODE={pull} IO_TYPE={board.io};',
        ]
    lines.append(f'FREQUENCY PORT "clk" {board.clock.mhz:g} MHZ;')
    return "\n".join(lines) + "\n"


def xdc(board: Board) -> str:
    """Return the constraints that Vivado and nextpnr for Xilinx read."""
    lines = [f"# {board.title}, {board.part}: pins from {board.sources['clock'].split(',')[0]}"]
    for port, pin in board.pins().items():
        lines.append(
            f"set_property -dict {{ PACKAGE_PIN {pin} IOSTANDARD {board.io} }} "
            f"[get_ports {{ {port} }}]"
        )
    slow = [port for port in board.pins() if port not in ("clk", "rx")]
    period = 1000 / board.clock.mhz
    lines += [
        "set_property PULLTYPE PULLUP [get_ports { rx }]",
        f"create_clock -name clk -period {period:.3f} [get_ports {{ clk }}]",
        "# What goes to people and serial lines is not timed.",
        "set_false_path -from [get_ports { rx }]",
        f"set_false_path -to [get_ports {{ {' '.join(slow)} }}]",
    ]
    return "\n".join(lines) + "\n"
