//! Feeds what `isthmus vpn peer-config` prints to the real daemons.

fn main() -> std::process::ExitCode {
    isthmus_interop::peer_config()
}
