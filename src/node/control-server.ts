/** The node's local socket: the control routes and who this node is, only for the socket's owner. */
import { makeApi } from '../api/http.ts';
import { listenOnSocket } from '../api/local-socket.ts';
import type { AppNetworks } from '../overlay/app-networks.ts';
import { registerApps } from './app-routes.ts';
import type { Renewed } from './leaf-renewal.ts';
import { type Explainer, registerExplain } from './policy-route.ts';
import { type Observed, registerObserved } from './observe-routes.ts';
import { type Control, registerControl, registerSend } from './control-routes.ts';

export interface NodeControl extends Control {
  readonly apps?: AppNetworks;
  readonly explain?: Explainer;
  /** What this daemon sees of itself. */
  readonly observed?: Observed;
  /** Renews this node's certificate now. */
  readonly renew?: () => Promise<Renewed>;
}

/** Listens until closed. @throws state_in_use, file_exists, argument_invalid, permission_denied */
export async function controlServer(socketPath: string, control: NodeControl): Promise<{ close(): Promise<void> }> {
  const api = await makeApi({
    title: 'Selvedge node, local',
    routes: (scope) => {
      scope.get('/v1/status', async () => control.facts());
      registerControl(scope, control);
      if (control.observed) registerObserved(scope, control.observed);
      if (control.explain) registerExplain(scope, control.explain);
      if (control.renew) {
        const { renew } = control;
        scope.post('/v1/renew', async () => renew());
      }
      registerSend(scope, control);
      if (control.apps) registerApps(scope, control.apps, control.timers);
    },
  });
  await listenOnSocket(api, socketPath);
  return { close: () => api.close() };
}
