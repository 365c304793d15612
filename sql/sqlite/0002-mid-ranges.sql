-- The ranges of mids in runs, for mids that were above all earlier ones of their sender. `mid` keeps only the others.
CREATE TABLE mid_range (
  conversation INTEGER NOT NULL,
  sender       INTEGER NOT NULL,
  top          TEXT NOT NULL,             -- the highest mid in a run, after a character for its length (32 + length)
  low          TEXT NOT NULL,             -- the lowest one
  seq          INTEGER NOT NULL,          -- of the run's last row
  PRIMARY KEY (conversation, sender, top)
) WITHOUT ROWID;

-- Every countable mid in `mid` must be at most the highest one here.
INSERT INTO mid_range (conversation, sender, top, low, seq)
SELECT conversation, sender, top, top, place & 0xffffffff
FROM (SELECT conversation, sender, max(char(32 + length(mid)) || mid) AS top, seq FROM mid
      WHERE mid NOT GLOB '*[^!-~]*' GROUP BY conversation, sender),
     run
WHERE place = (SELECT min(place) FROM run WHERE place >= (conversation << 32 | seq));
