-- Rows that came together form a series now (see src/db/series.ts): number columns have one entry per series, and a tenth
-- column holds the number of rows up to each one's end; it is empty, or missing in older records, where each has one row.

DROP VIEW message;

-- The log, row by row, for people.
CREATE VIEW message AS
WITH place (rows, folded) AS (SELECT rows, 1 FROM run UNION ALL SELECT rows, 0 FROM journal),
body (rows, folded, i, body, series) AS (
  SELECT rows, folded, key, value, CASE WHEN rows ->> '$[9][0]' IS NULL THEN key
           ELSE (SELECT count(*) FROM json_each(rows, '$[9]') AS ends WHERE ends.value <= each.key) END
  FROM place, json_each(rows, '$[8]') AS each WHERE json_type(rows, '$[0][7]') IS NOT 'text'
),
row (conversation, seq, kind, sender, device, mid, ts, body, folded) AS (
  SELECT rows ->> '$[0][0]' + ifnull(rows ->> ('$[1][' || series || ']'), 0),
         rows ->> '$[0][1]' + ifnull(rows ->> ('$[2][' || series || ']'), 0)
           + CASE WHEN rows ->> '$[9][0]' IS NULL THEN 0 WHEN series = 0 THEN i
             ELSE i - (rows ->> ('$[9][' || (series - 1) || ']')) END,
         rows ->> '$[0][2]' + ifnull(rows ->> ('$[3][' || series || ']'), 0),
         rows ->> '$[0][3]' + ifnull(rows ->> ('$[4][' || series || ']'), 0),
         rows ->> '$[0][4]' + ifnull(rows ->> ('$[5][' || series || ']'), 0),
         rows ->> ('$[6][' || i || ']'),
         rows ->> '$[0][5]' + ifnull(rows ->> ('$[7][' || series || ']'), 0),
         body, folded
  FROM body
  UNION ALL
  SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, folded
  FROM place, json_each(rows) WHERE json_type(rows, '$[0][7]') = 'text'
)
SELECT conversation, seq, kind, sender, device, mid, ts, body FROM row
WHERE folded OR seq > (SELECT last_seq FROM conversation WHERE id = row.conversation);
