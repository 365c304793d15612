// Parsing and formatting shared by several flags.

/** Parses the words for yes and no; undefined where it is neither. */
export const parseYesNo = (text: string): boolean | undefined =>
  /^(1|true|yes)$/i.test(text) ? true : /^(0|false|no)$/i.test(text) ? false : undefined;

/** What the certificate of a database or Redis at `host` must be like. */
export const certificateRule = (host: string): string =>
  `its certificate must name ${host}, must not have expired, and must be issued by a public authority or the one in NODE_EXTRA_CA_CERTS=FILE`;

/** A host as it may stand in a URL, without the brackets around an IPv6 address. */
export const bareHost = (host: string): string => host.replace(/^\[(.*)\]$/, "$1");

/** An address as in a URL: an IPv6 host in brackets. */
export const formatAddress = (host: string, port: number): string =>
  `${host.includes(":") ? `[${host}]` : host}:${port}`;
