//! isthmus-netlab
