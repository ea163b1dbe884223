"""From Verilog to numbers: simulation, synthesis, and the vendor's tools where they exist.

A design here is a list of Verilog sources, the name of its top, and an *interface*: where each
element lies in the words that go in and out (`fastml_kit.rtl.words`). Its top has the ports

    clk, rst (synchronous, active high), valid_in, data_in -> valid_out, data_out

takes a word every cycle and answers in order. A netlist keeps those ports, so that one test
bench serves the RTL and everything made of it.
"""
