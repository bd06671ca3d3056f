//! isthmus-esp
