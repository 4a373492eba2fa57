/**
 * One HTTP request to somebody else's server (an issuer's keys, a platform's authority), made so that nobody can use it to reach inside:
 * the host stands in an allow-list, every address that its name resolves to is public or in a network that the configuration names, the
 * connection goes to the very addresses that were looked at, a redirect is an answer like any other, and time and octets are bounded.
 */
import { lookup as resolve } from 'node:dns';
import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { isPublic, Networks } from './networks.ts';

export interface OutboundRules {
  /** `HOST`, or `HOST:PORT` where the port is not the scheme's own; compared exactly. */
  readonly hosts: readonly string[];
  /** Networks that are not public and yet may be reached, in CIDR notation. */
  readonly inside?: readonly string[];
  /** PEM of the roots that vouch for the server, instead of the system's. */
  readonly roots?: string;
  /** Allows `http:`, for servers on this very host or link that speak nothing else. */
  readonly plain?: boolean;
}

export interface OutboundRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly url: string;
  /** Exactly these are sent, besides `host` (where it is not among them), `connection` and the body's length. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly answer_bytes_max: number;
  readonly ms_max?: number;
  readonly signal?: AbortSignal;
}

export interface OutboundAnswer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Uint8Array;
}

/** @throws outbound_refused (by the rules), network_unreachable (asking again may help), body_too_large */
export async function sendOutbound(rules: OutboundRules, wanted: OutboundRequest): Promise<OutboundAnswer> {
  const url = allowedUrl(rules, wanted.url);
  const inside = new Networks(rules.inside ?? []);
  checkLiteral(url, inside);
  const deadline = AbortSignal.timeout(wanted.ms_max ?? limits.outbound_ms_max);
  const signal = wanted.signal === undefined ? deadline : AbortSignal.any([deadline, wanted.signal]);
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const request = send(url, {
    method: wanted.method,
    agent: false,
    setDefaultHeaders: false,
    headers: {
      host: url.host,
      ...wanted.headers,
      connection: 'close',
      ...(wanted.body !== undefined && { 'content-length': String(Buffer.byteLength(wanted.body)) }),
    },
    lookup: guardedLookup(url, inside),
    maxHeaderSize: limits.api_header_bytes_max,
    signal,
    // Of the server that is connected to, whatever host the request names.
    ...(url.protocol === 'https:' && {
      servername: isIP(bare(url)) === 0 ? url.hostname : '',
      minVersion: 'TLSv1.2' as const,
      ...(rules.roots !== undefined && { ca: rules.roots }),
    }),
  });
  // An abort ends the request once more, after its outcome was taken.
  request.on('error', () => undefined);
  try {
    request.end(wanted.body);
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    const body = await readBounded(response, wanted.answer_bytes_max);
    return { status: response.statusCode ?? 0, headers: response.headers, body };
  } catch (error) {
    throw failure(url, error, deadline);
  } finally {
    request.destroy();
  }
}

/** @throws outbound_refused */
export function allowedUrl({ hosts, plain = false }: OutboundRules, text: string): URL {
  const url = text.length <= limits.outbound_url_chars_max ? URL.parse(text) : null;
  if (url === null) throw new SelvedgeError('outbound_refused', { url: text.slice(0, 100), why: 'it is no URL' });
  // Neither name nor password is told: there may be one in it.
  const refuse = (why: string) => new SelvedgeError('outbound_refused', { url: `${url.protocol}//${url.host}${url.pathname}`, why });
  if (url.protocol !== 'https:' && !(plain && url.protocol === 'http:')) throw refuse('only https is allowed');
  if (url.username !== '' || url.password !== '') throw refuse('it holds a user name or password');
  if (url.hash !== '') throw refuse('it holds a fragment');
  if (!hosts.includes(url.host)) throw refuse(`its host is not among those allowed (${hosts.join(', ') || 'none'})`);
  return url;
}

/** A name is looked at when it is resolved; an address in the URL is never resolved. */
function checkLiteral(url: URL, inside: Networks): void {
  const literal = bare(url);
  if (isIP(literal) !== 0) checkAddress(url, literal, inside);
}

/** The host without the brackets of an IPv6 address. */
const bare = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '');

function checkAddress(url: URL, address: string, inside: Networks): void {
  if (isPublic(address) || inside.has(address)) return;
  throw new SelvedgeError('outbound_refused', {
    url: url.origin,
    why: `its address ${address} is not public, and not in a network that the configuration allows (inside)`,
  });
}

/** What is connected to is what was looked at: nothing resolves the name a second time. One bad address refuses them all. */
function guardedLookup(url: URL, inside: Networks): LookupFunction {
  return (hostname, options, answer) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return answer(error, '');
      try {
        for (const { address } of addresses) checkAddress(url, address, inside);
      } catch (refusal) {
        return answer(refusal as Error, '');
      }
      const [first] = addresses;
      if (options.all === true) return answer(null, addresses);
      return answer(null, first?.address ?? '', first?.family);
    });
  };
}

async function readBounded(response: IncomingMessage, bytes_max: number): Promise<Uint8Array> {
  // None was asked for, and what unpacks to more than it was is not read.
  const encoding = response.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') throw new Error(`it answered in encoding ${encoding}`);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > bytes_max) throw new SelvedgeError('body_too_large', { max: bytes_max });
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks));
}

function failure(url: URL, error: unknown, deadline: AbortSignal): SelvedgeError {
  if (error instanceof SelvedgeError) return error;
  if (deadline.aborted) return new SelvedgeError('network_unreachable', { peer: url.origin, why: 'it did not answer in time' }, { cause: error });
  return asSelvedgeError(error, 'network_unreachable', { peer: url.origin });
}
