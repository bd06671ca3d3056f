//! isthmus-plan
