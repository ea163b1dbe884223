// The ports and parameters of 7-series cells that FINN's RTL names (AMD UG953): what a synthesizer
// needs to leave them as they are. Their function is in yosys's own models.
`timescale 1 ns / 1 ps

(* blackbox *)
module LUT6_2 #(
    parameter [63:0] INIT = 64'b0
) (
    output O6, O5,
    input I0, I1, I2, I3, I4, I5
);
endmodule

(* blackbox *)
module DSP48E1 #(
    parameter integer ACASCREG = 1, ADREG = 1, ALUMODEREG = 1, AREG = 1, BCASCREG = 1, BREG = 1,
    parameter integer CARRYINREG = 1, CARRYINSELREG = 1, CREG = 1, DREG = 1, INMODEREG = 1,
    parameter integer MREG = 1, OPMODEREG = 1, PREG = 1,
    parameter AUTORESET_PATDET = "NO_RESET", A_INPUT = "DIRECT", B_INPUT = "DIRECT",
    parameter SEL_MASK = "MASK", SEL_PATTERN = "PATTERN", USE_DPORT = "FALSE",
    parameter USE_MULT = "MULTIPLY", USE_PATTERN_DETECT = "NO_PATDET", USE_SIMD = "ONE48",
    parameter [47:0] MASK = 48'h3FFFFFFFFFFF, PATTERN = 48'b0,
    parameter [3:0] IS_ALUMODE_INVERTED = 4'b0,
    parameter [0:0] IS_CARRYIN_INVERTED = 1'b0, IS_CLK_INVERTED = 1'b0,
    parameter [4:0] IS_INMODE_INVERTED = 5'b0,
    parameter [6:0] IS_OPMODE_INVERTED = 7'b0
) (
    output [29:0] ACOUT,
    output [17:0] BCOUT,
    output CARRYCASCOUT, MULTSIGNOUT, OVERFLOW, PATTERNBDETECT, PATTERNDETECT, UNDERFLOW,
    output [3:0] CARRYOUT,
    output [47:0] P, PCOUT,
    input [29:0] A, ACIN,
    input [3:0] ALUMODE,
    input [17:0] B, BCIN,
    input [47:0] C, PCIN,
    input [24:0] D,
    input [4:0] INMODE,
    input [6:0] OPMODE,
    input [2:0] CARRYINSEL,
    input CARRYCASCIN, CARRYIN, CLK, MULTSIGNIN,
    input CEA1, CEA2, CEAD, CEALUMODE, CEB1, CEB2, CEC, CECARRYIN, CECTRL, CED, CEINMODE, CEM, CEP,
    input RSTA, RSTALLCARRYIN, RSTALUMODE, RSTB, RSTC, RSTCTRL, RSTD, RSTINMODE, RSTM, RSTP
);
endmodule
