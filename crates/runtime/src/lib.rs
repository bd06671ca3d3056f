//! What every Isthmus process needs around its work: configuration, the layout of the state directory, logging,
//! randomness and time from the operating system, supervision of child processes, and orderly shutdown.
//!
//! Nothing here knows what a VPC is. A process reads its [`Config`], prepares its [`StateLayout`], starts
//! [`logging`], takes its [`PidFile`], makes a [`Shutdown`] and hands that to whatever it runs.

pub mod clock;
pub mod config;
pub mod environment;
pub mod layout;
pub mod logging;
pub mod pid_file;
pub mod private_file;
pub mod profile;
pub mod random;
pub mod shutdown;
pub mod supervise;

pub use config::{Config, ConfigError, Overrides};
pub use layout::{LayoutError, StateLayout};
pub use pid_file::{PidFile, PidFileError};
pub use profile::{Profile, ProfileError};
pub use shutdown::Shutdown;
pub use supervise::{ChildSpec, SupervisionEvent};
