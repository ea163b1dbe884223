// The clock generator as a name: its contents come from ecppll, in plain Verilog.
(* blackbox *)
module kit_pll (
    input  wire clkin,
    output wire clkout0,
    output wire locked
);
endmodule
