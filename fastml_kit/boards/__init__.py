"""Boards: what each one holds, a design wrapped for it, and talking to it, real or virtual.

A board is a file in `table/`. A user adds one by writing another such file and naming it where a
board's name is asked for, or by putting it into the folder that FASTML_BOARDS names.

A link to a board's logic is a *shell*: "uart", frames over a serial line (`rtl/hdl/
kit_uart_shell.v`), or "axi", beside a processor.
"""
