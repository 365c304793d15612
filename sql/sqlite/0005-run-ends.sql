-- Runs are appended in the order of folding, which fills their pages one after the other, and are found by an index.
-- Older ones keep their ids, `conversation << 32 | seq of the last row`; new ones follow them.

ALTER TABLE run RENAME COLUMN place TO id;

CREATE TABLE run_end (
  conversation INTEGER NOT NULL,
  seq          INTEGER NOT NULL,          -- of the run's last row
  run          INTEGER NOT NULL,
  PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;

INSERT INTO run_end (conversation, seq, run) SELECT id >> 32, id & 0xffffffff, id FROM run;
