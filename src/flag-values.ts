// How what several flags have in common is read and shown.

/** The words for yes and no; undefined where it is neither. */
export const parseYesNo = (text: string): boolean | undefined =>
  /^(1|true|yes)$/i.test(text) ? true : /^(0|false|no)$/i.test(text) ? false : undefined;

/** Where something listens, as it stands in a URL: an IPv6 address in brackets. */
export const formatAddress = (host: string, port: number): string =>
  `${host.includes(":") ? `[${host}]` : host}:${port}`;
