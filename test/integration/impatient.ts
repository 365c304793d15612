// Loaded before a program whose waits of a minute are to be over in half a second.
const { setTimeout: wait } = globalThis;
globalThis.setTimeout = ((work: () => void, ms?: number) => wait(work, ms === 60_000 ? 500 : ms)) as typeof setTimeout;
