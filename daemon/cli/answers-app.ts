/** The shapes in which a node answers about the app networks that it is a member of; checked as in answers.ts. */
import { facts, flag, list, maybe, number, shape, text, whole } from './answers.ts';

const echo = shape({ sequence: number, rtt_ms: maybe(number), at_ms: number });
const fault = shape({ code: text, what: text, why: text, remedy: text });
const appAttachment = shape({ name: text, netns: text, interface: text, addresses: list(text) });
const appNetwork = shape({
  name: text,
  vni: number,
  mtu: number,
  mtu_why: text,
  addresses: list(text),
  members: number,
  attachments: list(appAttachment),
  rx_bytes: maybe(number),
  tx_bytes: maybe(number),
  refused: facts,
});
const appPeer = shape({
  node: text,
  name: text,
  networks: list(text),
  path: text,
  why: text,
  endpoint: maybe(text),
  handshake_ms: maybe(number),
  rx_bytes: maybe(number),
  tx_bytes: maybe(number),
});
const tunnel = shape({ is_up: flag, program: maybe(text), pid: maybe(number), engine: maybe(text), generation: number, is_current: flag });
const app = shape({ tunnel, networks: list(appNetwork), peers: list(appPeer), faults: list(fault) });

export type AppStatus = ReturnType<typeof app>;

export const readApp = whole(shape({ app: maybe(app) }));
export const readConnected = whole(shape({ network: text, name: text, interface: text, address4: maybe(text), address6: maybe(text), mac: text }));
export const readEcho = whole(echo);
