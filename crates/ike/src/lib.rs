//! isthmus-ike
