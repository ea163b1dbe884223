// ECP5 LUTs for simulation, also those inside its carry cells; see luts_xc7.v.
module LUT2 #(parameter [3:0] INIT = 0) (input A, B, output Z);
    assign Z = INIT[{B, A}];
endmodule
module LUT4 #(parameter [15:0] INIT = 0) (input A, B, C, D, output Z);
    assign Z = INIT[{D, C, B, A}];
endmodule
