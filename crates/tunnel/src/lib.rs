//! isthmus-tunnel
