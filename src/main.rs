//! The `ringfence` binary: arguments to `cli`, nothing else.

fn main() -> std::process::ExitCode {
    ringfence::cli::main()
}
