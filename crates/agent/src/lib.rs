//! isthmus-agent
