/**
 * The shapes in which the local sockets answer, checked, since the CLI may be of another version than the daemon that it asks. Written
 * without the schema library, which takes longer to load than these commands take to run.
 */
import { SelvedgeError } from '../../src/base/errors.ts';

type Read<T> = (value: unknown, path: string) => T;
type Fields = Readonly<Record<string, Read<unknown>>>;
type Shape<F extends Fields> = { readonly [Key in keyof F]: ReturnType<F[Key]> };

export const text: Read<string> = (value, path) => (typeof value === 'string' ? value : refuse(path, 'a text'));
export const number: Read<number> = (value, path) => (typeof value === 'number' ? value : refuse(path, 'a number'));
export const flag: Read<boolean> = (value, path) => (typeof value === 'boolean' ? value : refuse(path, 'true or false'));
export const maybe =
  <T>(read: Read<T>): Read<T | null> =>
  (value, path) =>
    value === null || value === undefined ? null : read(value, path);
export const list =
  <T>(read: Read<T>): Read<T[]> =>
  (value, path) =>
    Array.isArray(value) ? value.map((one, index) => read(one, `${path}/${index}`)) : refuse(path, 'a list');
export const shape =
  <F extends Fields>(fields: F): Read<Shape<F>> =>
  (value, path) => {
    if (typeof value !== 'object' || value === null) return refuse(path, 'an object');
    const given = new Map<string, unknown>(Object.entries(value));
    return Object.fromEntries(Object.entries(fields).map(([key, read]) => [key, read(given.get(key), `${path}/${key}`)])) as Shape<F>;
  };
export const facts: Read<Readonly<Record<string, unknown>>> = (value, path) =>
  typeof value === 'object' && value !== null ? { ...value } : refuse(path, 'an object');

const channel = shape({
  peer: text,
  name: text,
  site: text,
  state: text,
  suspect: flag,
  transport: maybe(text),
  why: text,
  remote: maybe(text),
  rtt_ms: maybe(number),
  classes: list(text),
  bytes_sent: number,
  bytes_received: number,
  certificate_days: maybe(number),
  peer_view: maybe(shape({ health: text, latency_ms: number, jitter_ms: number, loss_part: number, configVersion: number, routeEpoch: number })),
});
export const token = shape({ id: text, uses: number, uses_max: number, site: maybe(text), expires_ms: number, revoked_ms: maybe(number) });

export const platformHost = shape({
  kind: text,
  id: text,
  facts,
  site: maybe(text),
  name: maybe(text),
  uses: number,
  uses_max: number,
  expires_ms: maybe(number),
  revoked_ms: maybe(number),
});

const appNetwork = { name: text, vni: number, subnet4: maybe(text), subnet6: maybe(text), mtu: maybe(number), learning: flag };
const appEndpoint = { attachment: text, mac: text, address4: maybe(text), address6: maybe(text) };
const appMember = {
  node: text,
  name: text,
  site: text,
  live: flag,
  vtep: maybe(text),
  keys: list(text),
  endpoint: maybe(shape({ host: text, port: number })),
  endpoints: list(shape(appEndpoint)),
};

export type AppNetwork = ReturnType<typeof readAppNetwork>;
export type AppMember = ReturnType<typeof readAppShown>['members'][number];
export type Channel = ReturnType<typeof channel>;
export type PlatformHost = ReturnType<typeof platformHost>;
export type Token = ReturnType<typeof token>;

const drain = shape({ state: text, flows: number, forced: number, left_ms: maybe(number) });
export const readDrain = whole(drain);
export const readChannels = whole(shape({ self: facts, channels: list(channel), drain: maybe(drain) }));
export const readPeers = whole(shape({ peers: list(shape({ peer: text, name: text, site: text, state: text, remote: maybe(text) })) }));
export const readPlatformHost = whole(platformHost);
export const readToken = whole(token);
export const readCreated = whole(shape({ text, token, fingerprint: text }));
export const readAppNetwork = whole(shape(appNetwork));
export const listedNetwork = shape({ ...appNetwork, members: number, attachments: number });
export const readAppShown = whole(shape({ ...appNetwork, members: list(shape(appMember)) }));
export const readAppEndpoint = whole(shape({ network: text, node: text, ...appEndpoint }));
export const readSample = whole(shape({ sequence: number, rtt_ms: number, at_ms: number }));
export const readSummary = whole(
  shape({
    sent: number,
    received: number,
    samples_ms: list(number),
    min_ms: maybe(number),
    p50_ms: maybe(number),
    p99_ms: maybe(number),
    max_ms: maybe(number),
  }),
);
export const readProgress = whole(shape({ bytes: number, total: number, rate_mbit: number, transport: maybe(text), left_s: maybe(number), at_ms: number }));
export const readSent = whole(shape({ sha256: text, name: text, bytes: number, sent_bytes: number, seconds: number, mbit: number }));
export const readRenewed = whole(shape({ before: text, now: text, not_after_ms: number, channels_moved: number, channels: number }));

/** @throws version_unsupported */
export function whole<T>(read: Read<T>): (value: unknown) => T {
  return (value) => read(value, '');
}

function refuse(path: string, expected: string): never {
  throw new SelvedgeError('version_unsupported', {
    found: `an answer where ${path || 'the whole'} is not ${expected}`,
    expected: 'answers of its own version',
  });
}
