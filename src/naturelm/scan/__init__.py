"""Long recordings in, tables of events out: windows, engines, a journal, and the formats that other tools read."""
