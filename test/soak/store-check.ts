// The store, read directly and row by row, beside what was counted.
import { type Conversation, type Ledger, midOf, nameOf } from "./ledger.ts";

/** A row of the log, as the store holds it. */
export interface StoredRow {
  conv: string;
  seq: number;
  mid: string | null;
  body: string;
}

export interface StoreCount {
  /** Rows of messages that are counted. */
  rows: number;
  /** Acknowledged or told, and not in the store. */
  missing: number;
}

/** Compares page by page; `page` gives the rows of a conversation above a seq, in order, until there are none. */
export async function compareStore(
  ledger: Ledger,
  page: (conv: string, above: number) => Promise<StoredRow[]>,
): Promise<StoreCount> {
  const count: StoreCount = { rows: 0, missing: 0 };
  for (const conversation of ledger.conversations.values()) {
    let last = conversation.base;
    for (let rows = await page(conversation.name, last); rows.length > 0; rows = await page(conversation.name, last))
      for (const row of rows) {
        if (row.seq !== last + 1) {
          const what = `${conversation.name}: ${row.seq} after ${last}`;
          for (let each = last + 1; each < row.seq; each++) ledger.findings.add("gaps", what);
        }
        last = row.seq;
        count.rows++;
        compareRow(ledger, conversation, row);
      }
  }
  for (const flow of ledger.flows)
    for (let number = 0; number < flow.count; number++) {
      // What was neither acknowledged nor told is stuck, and counted there.
      if (flow.seqs.get(number) === 0 || flow.stored.get(number) !== 0) continue;
      count.missing++;
      const place = `${flow.conversation.name} ${flow.seqs.get(number)}`;
      ledger.findings.add("lost", `${nameOf(flow, number)}, ${place}: not stored`);
    }
  return count;
}

function compareRow(ledger: Ledger, conversation: Conversation, { seq, mid, body }: StoredRow): void {
  const message = ledger.read(body);
  const isRight = message?.flow.conversation === conversation && mid === midOf(message.flow, message.number);
  if (message === null || !isRight)
    return ledger.findings.add("invented", `stored as ${conversation.name} ${seq}: ${mid} ${body.slice(0, 40)}`);
  // Finds a place that is another one than was told, and one that was told as another message's.
  ledger.place(message.flow, message.number, seq);
  message.flow.stored.set(message.number, seq);
}
