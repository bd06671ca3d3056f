//! isthmus-crypto
