/**
 * Who asks, and whether they may: the one hook through which every request of an API goes. A route either declares the scope that it needs
 * or stands in the list of those that anybody may ask; one that does neither, or both, keeps the API from starting. How a caller is recognized is
 * the API's owner's matter (`Access`); nothing here reads a header.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { assert, SelvedgeError } from '../base/errors.ts';

/** `management`: the configuration of the cluster. `client`: what an application or node needs for itself. Neither includes the other. */
export const scopes = ['management', 'client'] as const;
export type Scope = (typeof scopes)[number];

/** `any`: whoever is known, for what concerns the caller alone. */
export type RouteScope = Scope | 'any';

export interface Caller {
  /** As audit rows name it: `local`, `operator:ID`, `node:ID`, `service:NAME`, `jwt:ISSUER:SUBJECT`; `anybody` on open routes. */
  readonly actor: string;
  readonly scopes: ReadonlySet<Scope>;
  /** The node or operator that asks, where it is one. */
  readonly node?: string;
  readonly operator?: string;
  /** The tenant whose view alone it has; absent: of no tenant. */
  readonly tenant?: string;
  /** Id of the API session by which it asks, where it does. */
  readonly session?: string;
}

export interface Access {
  /** `METHOD /path` of each route that needs no caller. */
  readonly openRoutes: ReadonlySet<string>;
  /** Before anything of a request on an open route, or on none, is looked at. @throws rate_limited */
  admit(address: string): void;
  /** Who sent this, by its head and its connection alone. @throws unauthorized, and what says more */
  authenticate(request: IncomingMessage, response: ServerResponse): Promise<Caller>;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    scope?: RouteScope;
    /** It shows how the platform is laid out: reading it is audited, as a read of this part. */
    view?: string;
  }
  interface FastifyRequest {
    /** Set before a handler runs. */
    caller: Caller;
  }
}

/** What a route spreads into its options: `api.get(path, { ...management, schema }, handler)`. */
export const management = { config: { scope: 'management' } } as const;
/** Of what shows nodes, sites, addresses: the platform owner's view. */
export const platformView = (view: string) => ({ config: { scope: 'management', view } }) as const;
export const client = { config: { scope: 'client' } } as const;
export const anyScope = { config: { scope: 'any' } } as const;

const anybody: Caller = { actor: 'anybody', scopes: new Set() };

/** Whoever may open a Unix socket may do everything behind it: its mode is the authorization. */
export function localAccess(openRoutes: Access['openRoutes']): Access {
  return { openRoutes, admit: () => undefined, authenticate: async () => ({ actor: 'local', scopes: new Set(scopes) }) };
}

/** Before the first route is added. */
export function guard(api: FastifyInstance, access: Access): void {
  api.decorateRequest('caller', null as never);
  api.addHook('onRoute', ({ method, url, config }) => {
    for (const name of [method].flat().map((verb) => `${verb} ${url}`)) {
      const isOpen = access.openRoutes.has(name);
      assert(isOpen || config?.scope !== undefined, `${name} declares a scope, or stands in the list of open routes`);
      assert(!isOpen || config?.scope === undefined, `${name} is open, and so has no scope`);
    }
  });
  api.addHook('onRequest', async (request, reply) => {
    const { scope } = request.routeOptions.config;
    if (request.is404 || scope === undefined) {
      access.admit(request.ip);
      request.caller = anybody;
      return;
    }
    request.caller = await access.authenticate(request.raw, reply.raw);
    checkScope(request.caller, scope);
  });
}

/** @throws scope_denied */
function checkScope({ actor, scopes }: Caller, needed: RouteScope): void {
  if (needed === 'any' || scopes.has(needed)) return;
  throw new SelvedgeError('scope_denied', { actor, scope: needed, has: [...scopes].join(', ') || 'none' });
}
