// What is wanted, of two cores that the load generator shares, and how the C++ predecessor did there.

export interface Goal {
  scenario: string;
  /** Of the case. */
  name: string;
  metric: string;
  /** With neither of the two it is only shown beside the predecessor's. */
  atLeast?: number;
  atMost?: number;
  /** The case of the scenario that shows the limit. */
  beside?: string;
  predecessor?: string;
}

const oneToOne = (window: number, atLeast: number, predecessor: string): Goal => ({
  scenario: "one-to-one",
  name: `window ${window}`,
  metric: "rate",
  atLeast,
  beside: `window ${window}, bare relay`,
  predecessor,
});

const openLoop = (rate: string, metric: string, atMost: number, predecessor: string): Goal => ({
  scenario: "open-loop",
  name: `${rate}/s`,
  metric,
  atMost,
  predecessor,
});

const idle = (metric: string, atMost: number, predecessor: string): Goal => ({
  scenario: "idle",
  name: "5,000 connections",
  metric,
  atMost,
  predecessor,
});

const cluster = (name: string, metric: string, atLeast: number, predecessor: string): Goal => ({
  scenario: "cluster",
  name,
  metric,
  atLeast,
  predecessor,
});

const startUp = (stored: string): Goal => ({
  scenario: "history",
  name: `${stored} stored`,
  metric: "startMs",
  atMost: 100,
});

const MOSTLY_LOST = "38,000–75,000, 66–97 % lost";
const STORED = "250–830, 5–80 % lost";

export const GOALS: Goal[] = [
  oneToOne(1, 40_000, "63,000–75,000, stores nothing"),
  { ...oneToOne(1, 0, "0.65"), metric: "p50", atLeast: undefined, atMost: 1.5 },
  oneToOne(16, 180_000, "66,000–72,000, 60–88 % lost"),
  { ...oneToOne(16, 0, "14"), metric: "micros", atLeast: undefined, atMost: 4 },
  oneToOne(64, 280_000, MOSTLY_LOST),
  { ...oneToOne(64, 0, "14"), metric: "micros", atLeast: undefined, atMost: 4 },
  {
    scenario: "group",
    name: "100 members",
    metric: "rate",
    atLeast: 500_000,
    beside: "100 members, bare relay",
    predecessor: "11,000",
  },
  openLoop("5,000", "p50", 1, "0.14, stores nothing"),
  openLoop("5,000", "p99", 3, "0.30, stores nothing"),
  openLoop("20,000", "lost", 0, "5 %"),
  openLoop("20,000", "refused", 0, ""),
  openLoop("20,000", "p99", 10, ""),
  openLoop("40,000", "lost", 0, "68 %"),
  openLoop("40,000", "refused", 0, ""),
  openLoop("40,000", "p99", 10, ""),
  { scenario: "offline", name: "embedded", metric: "stored", atLeast: 200_000, predecessor: STORED },
  { scenario: "offline", name: "embedded", metric: "fetched", atLeast: 200_000 },
  { scenario: "log-ins", name: "token", metric: "rate", atLeast: 10_000, predecessor: "310–350, plain-text compare" },
  idle("connected", 2_500, "3,220"),
  idle("loggedIn", 4_000, ""),
  idle("openedMs", 300, "110"),
  ...["0", "100,000", "1,000,000", "10,000,000"].map(startUp),
  ...["1 KiB texts", "16 KiB texts"].map((name) => ({ scenario: "slow-reader", name, metric: "moved", atMost: 20 })),
  { scenario: "overload", name: "embedded", metric: "goodput", atLeast: 80 },
  { scenario: "overload", name: "embedded", metric: "recovery", atMost: 5 },
  { scenario: "cluster", name: "window 1", metric: "rate", predecessor: "330" },
  cluster("window 16", "rate", 25_000, "1,600, 88 % lost"),
  cluster("offline", "stored", 30_000, STORED),
  cluster("offline", "fetched", 200_000, ""),
  cluster("log-ins with token", "rate", 10_000, ""),
];
