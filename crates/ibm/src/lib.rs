//! isthmus-ibm
