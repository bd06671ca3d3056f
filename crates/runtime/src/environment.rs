//! Every environment variable that Isthmus reads. Each is the default of the flag of the same meaning.

/// Directory that holds the state of the installation: `--state-dir`.
pub const STATE_DIR: &str = "ISTHMUS_STATE_DIR";

/// Profile file with the address of the API and the key to log in with: `--profile`.
pub const PROFILE: &str = "ISTHMUS_PROFILE";

/// Configuration file: `--config`.
pub const CONFIG: &str = "ISTHMUS_CONFIG";

/// What is logged, such as `info` or `warn,isthmus_agent=debug`: `--log`.
pub const LOG: &str = "ISTHMUS_LOG";
