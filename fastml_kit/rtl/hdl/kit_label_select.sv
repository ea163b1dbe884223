// The index of the largest of LABELS elements, which come PE in a word; the first among equals.
module kit_label_select #(
    parameter int unsigned PE = 1,  // divides LABELS
    parameter int unsigned BITS = 8,
    parameter bit SIGNED = 1'b0,
    parameter int unsigned LABELS = 10,
    parameter int unsigned OUT_BITS = $clog2(LABELS)
) (
    input  logic                clk,
    input  logic                rst,
    input  logic [PE*BITS-1:0]  in_data,
    input  logic                in_valid,
    output logic                in_ready,
    output logic [OUT_BITS-1:0] out_data,
    output logic                out_valid,
    input  logic                out_ready
);
    localparam int unsigned WORDS = LABELS / PE;
    localparam int unsigned COUNT_BITS = WORDS > 1 ? $clog2(WORDS) : 1;
    localparam logic [COUNT_BITS-1:0] LAST = COUNT_BITS'(WORDS - 1);
    // With the sign bit inverted, two's complement numbers compare as unsigned ones do.
    localparam logic [BITS-1:0] BIAS = {SIGNED, {(BITS - 1) {1'b0}}};

    if (LABELS % PE != 0) $error("kit_label_select: PE=%0d does not divide LABELS=%0d", PE, LABELS);
    if (2 ** OUT_BITS < LABELS)
        $error("kit_label_select: OUT_BITS=%0d cannot hold %0d labels", OUT_BITS, LABELS);

    logic [COUNT_BITS-1:0] count;
    logic [BITS-1:0] best, largest;
    logic [OUT_BITS-1:0] best_at, largest_at, base;
    logic last, take;

    assign last = count == LAST;
    // Only the last word of a frame needs room in the output register.
    assign in_ready = !last || !out_valid || out_ready;
    assign take = in_valid && in_ready;

    // Later elements win only if they are larger, so that the first among equals stays.
    always_comb begin
        largest = best;
        largest_at = best_at;
        for (int unsigned i = 0; i < PE; i++) begin
            if ((i == 0 && count == '0) || (in_data[i*BITS+:BITS] ^ BIAS) > (largest ^ BIAS)) begin
                largest = in_data[i*BITS+:BITS];
                largest_at = base + OUT_BITS'(i);
            end
        end
    end

    always_ff @(posedge clk) begin
        if (take) begin
            best <= largest;
            best_at <= largest_at;
        end
        if (take && last) out_data <= largest_at;
    end

    always_ff @(posedge clk) begin
        if (rst) begin
            count <= '0;
            base <= '0;
            out_valid <= 1'b0;
        end else begin
            if (take) begin
                count <= last ? '0 : count + 1'b1;
                base <= last ? '0 : base + OUT_BITS'(PE);
            end
            if (take && last) out_valid <= 1'b1;
            else if (out_ready) out_valid <= 1'b0;
        end
    end
endmodule
