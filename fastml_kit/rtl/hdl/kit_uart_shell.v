// A stream core behind a serial line: frames of inputs are loaded, run, and their answers read.
//
// Frames are those of kit_frame_rx.v, numbers have their lowest byte first. A request is a command,
// a sequence number that the reply repeats, and arguments; a reply the command with its highest bit
// set, the number, a status, and data if the status is 0:
//
//   1 identify                                 -> IDENTITY
//   2 load     word address (2), words         -> nothing: words of the core's input, from there on
//   3 run      frames (2), rounds (4)          -> nothing: it has begun
//   4 status                                   -> running (1), broken frames (2), dropped ones (2),
//                                                 answers (4), first (4), cycles (6): kit_batch.v
//   5 read     word address (2), words (2)     -> words of the answers
//   6 abort                                    -> nothing: the core was reset, nothing runs
//
// Statuses: 0 done; 1 no such command; 2 wrong length; 3 no such address or count; 4 busy running;
// 5 a broken frame came, to which command and sequence number are 0. A load that ends within a
// word, or beyond the memory, has stored the words before. Each request is answered at once, so
// that a host can ask how a long run is doing, or end it.
`timescale 1 ns / 1 ps
module kit_uart_shell #(
    parameter DIVISOR = 25,
    parameter SIZE = 256,  // bytes of a frame
    parameter IN_BYTES = 1,
    parameter IN_WORDS = 1,
    parameter OUT_BYTES = 1,
    parameter OUT_WORDS = 1,
    parameter IN_DEPTH = 512,
    parameter OUT_DEPTH = 512,
    parameter MOST = 512,  // frames of which the memories hold questions and answers
    parameter IDENTITY_BYTES = 1,
    parameter [8*IDENTITY_BYTES-1:0] IDENTITY = 0
) (
    input wire clk,
    input wire rst,

    input  wire rx,
    output wire tx,

    output reg                    core_rst,
    output wire [ 8*IN_BYTES-1:0] in_data,
    output wire                   in_valid,
    input  wire                   in_ready,
    input  wire [8*OUT_BYTES-1:0] out_data,
    input  wire                   out_valid,
    output wire                   out_ready,

    output wire running,
    output reg  broken   // the last frame was
);
    localparam INDEX = $clog2(SIZE);
    localparam IN_INDEX = $clog2(IN_DEPTH);
    localparam OUT_INDEX = $clog2(OUT_DEPTH);
    localparam [31:0] STATUS_BYTES = 19, ABORT_CYCLES = 16, IDENTITY_LENGTH = IDENTITY_BYTES;
    localparam [31:0] IN_LAST = IN_BYTES - 1, OUT_LAST = OUT_BYTES - 1;
    localparam [16:0] IN_END = IN_DEPTH, OUT_END = OUT_DEPTH;
    localparam [31:0] HIGHEST = MOST;

    localparam [7:0] IDENTIFY = 1, LOAD = 2, RUN = 3, STATUS = 4, READ = 5, ABORT = 6;
    localparam [7:0] DONE = 0, NO_COMMAND = 1, BAD_LENGTH = 2, BAD_RANGE = 3, BUSY = 4, BROKEN = 5;

    // The serial side.
    wire [7:0] rx_data, tx_data, read, tx_byte;
    wire rx_valid, rx_fault, tx_valid, tx_ready, frame, complain, byte_ready;
    wire [INDEX:0] length;
    wire [15:0] broken_count, dropped_count;
    reg [INDEX-1:0] read_at;
    reg done, heard, tx_last, byte_valid;
    reg [7:0] reply;

    kit_uart_rx #(DIVISOR) receiver (
        .clk(clk), .rst(rst), .line(rx), .data(rx_data), .valid(rx_valid), .fault(rx_fault)
    );
    kit_uart_tx #(DIVISOR) transmitter (
        .clk(clk), .rst(rst), .data(tx_byte), .valid(tx_valid), .ready(tx_ready), .line(tx)
    );
    kit_frame_rx #(SIZE) frames_in (
        .clk(clk), .rst(rst), .in_data(rx_data), .in_valid(rx_valid), .in_fault(rx_fault),
        .frame(frame), .length(length), .read_at(read_at), .read(read), .done(done),
        .complain(complain), .heard(heard), .broken(broken_count), .dropped(dropped_count)
    );
    kit_frame_tx frames_out (
        .clk(clk), .rst(rst), .in_data(reply), .in_valid(byte_valid), .in_last(tx_last),
        .in_ready(byte_ready), .out_data(tx_byte), .out_valid(tx_valid), .out_ready(tx_ready)
    );

    // The core's side.
    reg write, start;
    reg [IN_INDEX-1:0] write_at;
    reg [8*IN_BYTES-1:0] word;
    reg [OUT_INDEX-1:0] answer_at;
    wire [8*OUT_BYTES-1:0] answer;
    wire [31:0] answers, first;
    wire [47:0] cycles;
    reg [63:0] head;  // command, number, arguments: the first byte lowest
    reg [4:0] aborting;

    kit_batch #(IN_BYTES, IN_WORDS, OUT_BYTES, OUT_WORDS, IN_DEPTH, OUT_DEPTH) batch (
        .clk(clk), .rst(core_rst),
        .write(write), .write_at(write_at), .write_data(word),
        .read_at(answer_at), .read_data(answer),
        .start(start), .frames(head[31:16]), .rounds(head[63:32]), .running(running),
        .answers(answers), .first(first), .cycles(cycles),
        .in_data(in_data), .in_valid(in_valid), .in_ready(in_ready),
        .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready)
    );

    always @(posedge clk) begin
        core_rst <= rst || aborting != 0;
        if (rst) aborting <= 0;
        else if (start_abort) aborting <= ABORT_CYCLES[4:0];
        else if (aborting != 0) aborting <= aborting - 1'b1;
    end

    // The commands' side: read eight bytes whether there are so many or not, judge, act, reply.
    localparam [2:0] WAIT = 0, HEAD = 1, JUDGE = 2, STORE = 3, ANSWER = 4, BODY = 5, FETCH = 6;
    reg [2:0] state;
    reg [INDEX:0] at;           // of the frame: bytes read
    reg ready;                  // `read` holds the byte before `at`
    reg [15:0] place;           // of a word or a reply: bytes done
    reg [16:0] address;
    reg [15:0] left;            // words to read
    reg [8*OUT_BYTES-1:0] out;
    reg [7:0] status;

    wire [7:0] command = head[7:0];
    wire [15:0] from = head[31:16], count = head[47:32];
    wire [16:0] behind = {1'b0, from} + {1'b0, count};
    wire start_abort = state == JUDGE && command == ABORT && length == 2;
    wire moved = byte_valid && byte_ready;
    wire [8*IN_BYTES+7:0] next_word = {read, word};
    wire [151:0] figures = {
        cycles, first, answers, dropped_count, broken_count, 7'd0, running
    };
    wire [8*OUT_BYTES+7:0] out_rest = {8'd0, out};

    // Comparing takes a cycle of its own: these are ready when a frame is judged.
    reg in_range, no_zero;
    always @(posedge clk) begin
        in_range <= command == RUN ? {16'd0, from} <= HIGHEST
                  : command == READ ? behind <= OUT_END : from < IN_END[15:0] || IN_END[16];
        no_zero <= command == RUN ? from != 0 && head[63:32] != 0 : count != 0;
    end

    reg [7:0] verdict;
    always @* begin
        verdict = DONE;
        case (command)
            IDENTIFY, STATUS, ABORT: if (length != 2) verdict = BAD_LENGTH;
            LOAD:
            if (length < 5) verdict = BAD_LENGTH;
            else if (running) verdict = BUSY;
            else if (!in_range) verdict = BAD_RANGE;
            RUN:
            if (length != 8) verdict = BAD_LENGTH;
            else if (running) verdict = BUSY;
            else if (!in_range || !no_zero) verdict = BAD_RANGE;
            READ:
            if (length != 6) verdict = BAD_LENGTH;
            else if (running) verdict = BUSY;
            else if (!in_range || !no_zero) verdict = BAD_RANGE;
            default: verdict = NO_COMMAND;
        endcase
    end

    always @(posedge clk) begin
        done <= 1'b0;
        heard <= 1'b0;
        write <= 1'b0;
        start <= 1'b0;
        ready <= 1'b0;
        if (write) write_at <= write_at + 1'b1;
        if (moved) byte_valid <= 1'b0;
        case (state)
            WAIT: begin
                at <= 0;
                read_at <= 0;
                place <= 0;
                if (complain && !heard) begin
                    heard <= 1'b1;
                    broken <= 1'b1;
                    head[15:0] <= 16'd0;
                    status <= BROKEN;
                    state <= ANSWER;
                end else if (frame && !done) begin
                    broken <= 1'b0;
                    state <= HEAD;
                end
            end
            HEAD: begin
                // The memory answers a cycle after it was asked: every other cycle is a byte.
                ready <= !ready;
                if (ready) begin
                    head <= {read, head[63:8]};
                    at <= at + 1'b1;
                    read_at <= read_at + 1'b1;
                    place <= place + 1'b1;
                end
                if (place == 16'd8) state <= JUDGE;  // `in_range` is then of all eight
            end
            JUDGE: begin
                status <= verdict;
                place <= 0;
                address <= {1'b0, from};
                left <= count;
                write_at <= from[IN_INDEX-1:0];
                answer_at <= from[OUT_INDEX-1:0];
                at <= 4;
                read_at <= 4;
                state <= verdict == DONE && command == LOAD ? STORE : ANSWER;
                start <= verdict == DONE && command == RUN;
            end
            STORE: begin
                ready <= !ready;
                if (at == length) begin
                    if (place != 0) status <= BAD_LENGTH;
                    place <= 0;
                    state <= ANSWER;
                end else if (ready) begin
                    at <= at + 1'b1;
                    read_at <= read_at + 1'b1;
                    if (address == IN_END) begin
                        status <= BAD_RANGE;
                        place <= 0;
                        state <= ANSWER;
                    end else begin
                        word <= next_word[8*IN_BYTES+7:8];
                        place <= place + 1'b1;
                        if (place == IN_LAST[15:0]) begin
                            place <= 0;
                            write <= 1'b1;
                            address <= address + 1'b1;
                        end
                    end
                end
            end
            ANSWER:
            if (!byte_valid) begin
                byte_valid <= 1'b1;
                place <= place + 1'b1;
                tx_last <= 1'b0;
                case (place[1:0])
                    2'd0: reply <= status == BROKEN ? 8'h80 : {1'b1, command[6:0]};
                    2'd1: reply <= head[15:8];
                    default: begin
                        reply <= status;
                        place <= 0;
                        done <= status != BROKEN;
                        if (status == DONE && command == READ) state <= FETCH;
                        else if (status == DONE && (command == IDENTIFY || command == STATUS))
                            state <= BODY;
                        else begin
                            tx_last <= 1'b1;
                            state <= WAIT;
                        end
                    end
                endcase
            end
            FETCH:
            // `answer_at` has stood for more than a cycle: the byte before took longer.
            if (!byte_valid) begin
                out <= answer;
                answer_at <= answer_at + 1'b1;
                left <= left - 1'b1;
                place <= 0;
                state <= BODY;
            end
            default:
            if (!byte_valid) begin
                byte_valid <= 1'b1;
                place <= place + 1'b1;
                tx_last <= 1'b0;
                case (command)
                    IDENTIFY: begin
                        reply <= IDENTITY[8*place+:8];
                        if (place == IDENTITY_LENGTH[15:0] - 1) begin
                            tx_last <= 1'b1;
                            state <= WAIT;
                        end
                    end
                    STATUS: begin
                        reply <= figures[8*place+:8];
                        if (place == STATUS_BYTES[15:0] - 1) begin
                            tx_last <= 1'b1;
                            state <= WAIT;
                        end
                    end
                    default: begin
                        reply <= out[7:0];
                        out <= out_rest[8*OUT_BYTES+7:8];
                        if (place == OUT_LAST[15:0]) begin
                            tx_last <= left == 0;
                            state <= left == 0 ? WAIT : FETCH;
                        end
                    end
                endcase
            end
        endcase
        if (rst) begin
            state <= WAIT;
            byte_valid <= 1'b0;
            broken <= 1'b0;
            status <= DONE;
        end
    end
endmodule
