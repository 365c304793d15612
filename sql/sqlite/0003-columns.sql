-- Rows are stored column by column now (see src/db/sqlite-rows.ts), in `run` and in `journal`: JSON arrays of
-- [base, conversations, seqs, kinds, senders, devices, mids, times, bodies], where base is the first row's [conversation,
-- seq, kind, sender, device, ts], and a column holds each row's difference from that, or nothing where all are equal.
-- Older records stay as they are: arrays of rows.

DROP VIEW message;

-- Without AUTOINCREMENT, which costs each commit a page of sqlite_sequence: nothing else refers to a record.
CREATE TABLE journal_rows (
  id   INTEGER PRIMARY KEY,
  rows TEXT NOT NULL
);
INSERT INTO journal_rows (id, rows) SELECT id, rows FROM journal;
DROP TABLE journal;
ALTER TABLE journal_rows RENAME TO journal;

-- The log, row by row, for people.
CREATE VIEW message AS
WITH place (rows, folded) AS (SELECT rows, 1 FROM run UNION ALL SELECT rows, 0 FROM journal),
row (conversation, seq, kind, sender, device, mid, ts, body, folded) AS (
  SELECT rows ->> '$[0][0]' + ifnull(rows ->> ('$[1][' || key || ']'), 0),
         rows ->> '$[0][1]' + ifnull(rows ->> ('$[2][' || key || ']'), 0),
         rows ->> '$[0][2]' + ifnull(rows ->> ('$[3][' || key || ']'), 0),
         rows ->> '$[0][3]' + ifnull(rows ->> ('$[4][' || key || ']'), 0),
         rows ->> '$[0][4]' + ifnull(rows ->> ('$[5][' || key || ']'), 0),
         rows ->> ('$[6][' || key || ']'),
         rows ->> '$[0][5]' + ifnull(rows ->> ('$[7][' || key || ']'), 0),
         value, folded
  FROM place, json_each(rows, '$[8]') WHERE json_type(rows, '$[0][7]') IS NOT 'text'
  UNION ALL
  SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, folded
  FROM place, json_each(rows) WHERE json_type(rows, '$[0][7]') = 'text'
)
SELECT conversation, seq, kind, sender, device, mid, ts, body FROM row
WHERE folded OR seq > (SELECT last_seq FROM conversation WHERE id = row.conversation);
