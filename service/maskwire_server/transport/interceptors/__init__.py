"""What every call needs around its servicer, in layers that know nothing of each other.

`CallPipeline` wraps the handlers of all four kinds of RPC once; the layers are `Interceptor`s. In
`server.py` they stand in this order, outermost first:

1. `RequestIdInterceptor` names the call; everything further in may log. `TracingInterceptor`,
   which is there only where tracing is on, traces all that follows.
2. `MetricsInterceptor` and `AccessLogInterceptor` see the final status, refusals included.
3. `ErrorInterceptor` turns whatever comes from further in into a status.
4. `AuthenticationInterceptor` says who calls, or refuses.
5. `QuotaInterceptor` refuses what is one too many for its tenant.
6. `AdmissionInterceptor` refuses when draining or full. All three act before the request is read.
7. `DeadlineInterceptor` limits how long a unary call may take, reading its request included.
8. `ValidationInterceptor` checks each request message as it is read.

Measured together, with metrics and a JSON log, against a bare grpc.aio server on the same two busy
cores: 0.18 ms more on a unary call with 1 kB and ten points (0.48 ms without any), of which
checking the rules takes 0.06 ms and the others about 0.02 ms each.

gRPC's own services (health, reflection, channelz) stay outside: they answer when nothing else can.
"""
