//! isthmus-simnet
