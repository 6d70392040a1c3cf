"""Workers: take admitted work by lane, run it on an engine, moderate the answer, append one completion per attempt."""
