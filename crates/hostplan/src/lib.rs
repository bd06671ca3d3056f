//! isthmus-hostplan
