/** Why the server cannot start, as one line that says what to do. */
export class StartError extends Error {}
