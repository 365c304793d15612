// Entry point of the thread that copies the embedded database's write-ahead log into its file.
import { serveCheckpoints } from "./db/sqlite-checkpoint.ts";

serveCheckpoints();
