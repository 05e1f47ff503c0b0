package aiworkflow.security
allow { input.request.namespace == "ai-secure" }
