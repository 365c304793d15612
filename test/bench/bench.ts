// npm run bench: the compiled server over loopback, driven from this process. Every message is stored with fsync and
// acknowledged, and it is an error when one is lost or doubled. Prints medians over the runs.
import { readArguments } from "./arguments.ts";
import { benchCluster } from "./cluster.ts";
import { benchEmbedded } from "./embedded.ts";

const given = readArguments();
await (given.cluster ? benchCluster(given) : benchEmbedded(given));
