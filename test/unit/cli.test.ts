// Flags and environment: what they mean, which wins, and what a wrong one is told.
import { describe, expect, spyOn, test } from "bun:test";
import { homedir } from "node:os";
import { type Options, readOptions, UsageError } from "../../src/cli.ts";
import { readOptions as readClientOptions } from "../../src/client/cli.ts";

const ENV = { HOME: "/home/someone" };

function options(argv: string[], env: Record<string, string> = {}): Options {
  const read = readOptions(argv, { ...ENV, ...env });
  if (read === null) throw new Error(`${argv} gave no options`);
  return read;
}

/** The line that these are refused with; "" where they are not. */
function refusal(argv: string[], env: Record<string, string> = {}): string {
  try {
    options(argv, env);
    return "";
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return (error as Error).message;
  }
}

/** What is written to the terminal meanwhile. */
function printed(work: () => void): string {
  let text = "";
  const keep = (line: unknown) => {
    text += `${line}\n`;
    return true;
  };
  const spies = [
    spyOn(console, "info").mockImplementation(keep),
    spyOn(process.stdout, "write").mockImplementation(keep),
  ];
  try {
    work();
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return text;
}

const help = printed(() => expect(readOptions(["--help"], {})).toBeNull());
/** The flags that the help lists with a variable. */
const flags = [...help.matchAll(/^ {2}(--[a-z-]+)[^$\n]*.*\$(CHAT_[A-Z_]+)\)/gm)].map(([, flag, variable]) => ({
  flag: flag!,
  variable: variable!,
  option: flag!.slice(2).replace(/-(.)/g, (_, letter) => letter.toUpperCase()) as keyof Options,
}));

/** Flags that are only taken with another. */
const NEEDS: Record<string, Record<string, string>> = {
  "--redis": { CHAT_MYSQL: "mysql://chat@localhost/chat" },
  "--tls-cert": { CHAT_TLS_KEY: "key.pem" },
  "--tls-key": { CHAT_TLS_CERT: "certificate.pem" },
};
/** Of each kind of value at least two that are allowed. */
const SAMPLES = [
  "2048",
  "4096",
  "70000",
  "80000",
  "20",
  "30",
  "yes",
  "no",
  "warn",
  "debug",
  "10.0.0.0/8",
  "::1",
  "mysql://chat:pw@localhost/chat",
  "mysql://chat@db:3307/other",
  "redis://localhost",
  "rediss://:pw@redis:6380/1",
  "text",
  "some",
];
/** Flags whose values are not shown in errors, and flags that may be given several times. */
const SECRET = ["--mysql", "--redis"];
const MANY = ["--redis"];

describe.each(flags)("$flag and $variable", ({ flag, variable, option }) => {
  const needs = NEEDS[flag] ?? {};
  const [one, other] = SAMPLES.filter((value) => refusal([`${flag}=${value}`], needs) === "");
  const value = (argv: string[], env: Record<string, string> = {}) => options(argv, { ...needs, ...env })[option];

  test("mean the same, and the flag wins", () => {
    expect([one, other]).not.toContain(undefined);
    expect(value([`${flag}=${one}`])).not.toEqual(value([`${flag}=${other}`]));
    expect(value([], { [variable]: one! })).toEqual(value([`${flag}=${one}`]));
    expect(value([`${flag}=${other}`], { [variable]: one! })).toEqual(value([`${flag}=${other}`]));
    expect(value(["6001", `${flag}=${one}`])).toEqual(value([`${flag}=${one}`, "6001"]));
    expect(options([], { ...needs, [variable]: one! }).strayVariables).toEqual([]);
  });

  test("are named after each other", () =>
    expect(variable).toBe(`CHAT_${flag.slice(2).replaceAll("-", "_").toUpperCase()}`));

  test("empty: the variable is as if it were not set, the flag is refused", () => {
    expect<unknown>(options([], { [variable]: "" })[option]).toEqual(options([])[option]);
    const shown = SECRET.includes(flag) ? "the given value" : '""';
    expect(refusal([`${flag}=`], needs)).toMatch(new RegExp(`^${flag}: ${shown} is not \\S+`));
  });

  test("the flag is refused when it is given more than once, or without its value", () => {
    const twice = refusal([`${flag}=${one}`, `${flag}=${other}`], needs);
    if (!MANY.includes(flag)) expect(twice).toBe(`${flag}: given more than once`);
    const isSwitch = help.includes(`${flag}[=no]`);
    expect(refusal([flag], needs)).toMatch(isSwitch ? /^$/ : new RegExp(`${flag} <[A-Z]+>.*value is missing`));
  });
});

test("the help lists every option with a flag, a variable and a default", () => {
  expect(flags.length).toBeGreaterThanOrEqual(14);
  expect(help).toContain("(default 6000; $CHAT_PORT)");
  expect(help).toContain("$ ChatServer [port] [options]");
  const known = new Set<string>([...flags.map(({ option }) => option), "port", "tls", "strayVariables"]);
  expect(Object.keys(options([])).filter((name) => !known.has(name))).toEqual([]);
  for (const line of help.split("\n").filter((each) => each.includes("$CHAT_") && each.startsWith("  --")))
    expect(line).toContain("(default ");
});

test("the defaults", () => {
  expect(options([])).toMatchObject({
    port: 6000,
    host: "0.0.0.0",
    maxFrame: 65_536,
    maxConnections: 100_000,
    loginTimeout: 60,
    idleTimeout: 300,
    drainTimeout: 10,
    tokenTtl: 7 * 86_400,
    passwordMemory: 19,
    passwordTime: 2,
    logLevel: "info",
  });
});

test("the port stands alone, or comes from CHAT_PORT", () => {
  expect(options(["7001"]).port).toBe(7001);
  expect(options(["0"]).port).toBe(0);
  expect(options(["--", "7001"]).port).toBe(7001);
  expect(options([], { CHAT_PORT: "7002" }).port).toBe(7002);
  expect(options(["7001"], { CHAT_PORT: "7002" }).port).toBe(7001);
  expect(options([], { CHAT_PORT: "" }).port).toBe(6000);
  for (const wrong of ["65536", "", " 6000", "6e3", "0x10", "6000.5", "six"])
    expect(refusal([wrong])).toBe(`port: ${JSON.stringify(wrong)} is not a number from 0 to 65535`);
  expect(refusal([], { CHAT_PORT: "six" })).toBe('CHAT_PORT: "six" is not a number from 0 to 65535');
  for (const argv of [
    ["6000", "6001"],
    ["6000", "--", "6001"],
    ["--", "6000", "6001"],
  ])
    expect(refusal(argv)).toStartWith('unexpected "6001": ');
});

test("an IPv6 address may stand in brackets, as in a URL", () => {
  for (const host of ["::1", "[::1]"]) {
    expect(options(["--host", host]).host).toBe("::1");
    expect(readClientOptions([host], {})!.host).toBe("::1");
  }
});

test("sizes and times may be written with a unit", () => {
  const sizes = { "65536": 65_536, "64k": 65_536, "64K": 65_536, "1m": 1_048_576, "16777215": 16_777_215 };
  for (const [text, size] of Object.entries(sizes)) expect(options(["--max-frame", text]).maxFrame).toBe(size);
  const times = { "90": 90, "90s": 90, "5m": 300, "2h": 7200, "1d": 86_400, "1D": 86_400 };
  for (const [text, time] of Object.entries(times)) expect(options(["--login-timeout", text]).loginTimeout).toBe(time);
  expect(options([], { CHAT_TOKEN_TTL: "365d" }).tokenTtl).toBe(31_536_000);
});

test.each([
  [
    "--max-frame",
    ["1023", "16m", "16777216", "64kb", "5000s", "-5", "0x800", "1e4", "2048.0", " 2048", "9".repeat(20)],
  ],
  ["--max-connections", ["0", "1000001", "1k", "many"]],
  ["--login-timeout", ["0", "2d", "1w", "5k", "1.5m", "m"]],
  ["--token-ttl", ["366d", "0s"]],
  ["--log-level", ["loud", "INFO", "info\nnotice"]],
])("%s is refused in one line that says what is allowed", (flag, wrong) => {
  const variable = flags.find((each) => each.flag === flag)!.variable;
  for (const value of wrong) {
    const rule = `: ${JSON.stringify(value)} is not `;
    expect(refusal([`${flag}=${value}`])).toStartWith(flag + rule);
    expect(refusal([], { [variable]: value })).toStartWith(variable + rule);
    expect(refusal([`${flag}=${value}`])).not.toContain("\n");
    expect(refusal([`${flag}=${value}`])).toMatch(/is not .*\b(from [\d]+ to [\d]+|one of error, warn, info, debug)/);
  }
});

test("an unknown flag is refused by its name, also where it looks like a known one", () => {
  for (const flag of [
    "--nope",
    "--hos",
    "--no-host",
    "--host.x",
    "--maxFrame",
    "--constructor",
    "--__proto__",
    "-p",
    "-5",
    "-",
  ])
    for (const argv of [[flag], [flag, "1"], [`${flag}=1`], ["6000", flag]])
      expect(refusal(argv)).toBe(`unknown option "${flag}": see --help`);
  expect(refusal(["--host", "--nope"])).toContain('"--nope"');
});

test("values are taken as they are written", () => {
  for (const value of ["007", "1e3", "0x10", "1.0", " ", "a=b", "true", "=", "-"]) {
    expect(options([`--data=${value}`]).data).toBe(value);
    expect(options([], { CHAT_DATA: value }).data).toBe(value);
    if (value !== "-") expect(options(["--data", value]).data).toBe(value);
  }
});

test("a switch takes no value but behind =", () => {
  expect(options(["--proxy-protocol", "7001"])).toMatchObject({ proxyProtocol: true, port: 7001 });
  expect(options(["--proxy-protocol=no"], { CHAT_PROXY_PROTOCOL: "1" }).proxyProtocol).toBe(false);
  expect(refusal(["--proxy-protocol=maybe"])).toStartWith('--proxy-protocol: "maybe" is not ');
});

test("TLS takes both of its files", () => {
  expect(options([]).tls).toBeNull();
  expect(options(["--tls-cert", "c", "--tls-key", "k"]).tls).toEqual({ certificate: "c", key: "k" });
  expect(refusal(["--tls-cert", "c"])).toStartWith("--tls-cert: ");
  expect(refusal([], { CHAT_TLS_KEY: "k" })).toContain("--tls-key");
});

test("the database is in systemd's state directory, else in the user's data directory", () => {
  const data = (env: Record<string, string | undefined>) => readOptions([], env)?.data;
  const all = { STATE_DIRECTORY: "/var/lib/chat", XDG_DATA_HOME: "/data", HOME: "/home/someone" };
  expect(data(all)).toBe("/var/lib/chat/chat.db");
  expect(data({ ...all, STATE_DIRECTORY: "/var/lib/chat:/var/lib/other" })).toBe("/var/lib/chat/chat.db");
  expect(data({ ...all, STATE_DIRECTORY: "" })).toBe("/data/chatserver/chat.db");
  expect(data({ ...all, STATE_DIRECTORY: undefined })).toBe("/data/chatserver/chat.db");
  const home = "/home/someone/.local/share/chatserver/chat.db";
  // The specification says that a relative path there is to be ignored.
  for (const XDG_DATA_HOME of [undefined, "", "data", "./data"])
    expect(data({ HOME: "/home/someone", XDG_DATA_HOME })).toBe(home);
  expect(data({})).toBe(`${homedir()}/.local/share/chatserver/chat.db`);
  expect(data({ ...all, CHAT_DATA: "mine.db" })).toBe("mine.db");
  expect(data({ ...all, CHAT_DATA: "" })).toBe("/var/lib/chat/chat.db");
  expect(readOptions(["--data", "flag.db"], { ...all, CHAT_DATA: "mine.db" })?.data).toBe("flag.db");
});

test("variables that look like options and are none are told", () => {
  expect(
    options([], { CHAT_MAX_FRAMES: "1", CHAT_: "1", CHATTER: "1", CHAT_HOST: "x", CHAT_PORT: "1" }).strayVariables,
  ).toEqual(["CHAT_MAX_FRAMES", "CHAT_"]);
});

test("--help and --version print, and nothing is to be started", () => {
  for (const argv of [["--version"], ["-v"], ["6000", "--version"]])
    expect(printed(() => expect(readOptions(argv, {})).toBeNull())).toMatch(/^ChatServer \S+/);
  expect(printed(() => expect(readOptions(["-h"], {})).toBeNull())).toBe(help);
  expect(help).toStartWith("ChatServer");
});

test("one instance alone needs neither MySQL nor Redis, and several need MySQL", () => {
  expect(refusal(["--redis", "redis://localhost"])).toMatch(/^--redis: .*--mysql/);
  expect(refusal(["--mysql", "mysql://chat@localhost/chat", "--data", "chat.db"])).toMatch(/^--data: .*--mysql/);
  const { redis } = options(["--mysql", "mysql://chat@db/chat", "--redis", "redis+cluster://a", "--redis", "b:7000"]);
  expect(redis).toMatchObject({ kind: "cluster", addresses: [{ host: "a" }, { host: "b", port: 7000 }] });
});

test("what is wrong with an address is the fault of its flag or variable, whatever it is", () => {
  for (const url of ["mysql://u:p@127.0.0.1:99999/x", "mysql://u:p%zz@127.0.0.1/x", "mysql://u:p@h/x?ssl=true"]) {
    const rule = ": the given value is not mysql://user:password@host:port/database[?tls=yes]";
    expect(refusal(["--mysql", url])).toStartWith(`--mysql${rule}`);
    expect(refusal([], { CHAT_MYSQL: url })).toStartWith(`CHAT_MYSQL${rule}`);
  }
});

test("a password in an address is not shown", () => {
  expect(refusal(["--mysql", "mysql://chat:secret@"])).not.toContain("secret");
  expect(refusal(["--redis", "http://:secret@host"])).not.toContain("secret");
});
