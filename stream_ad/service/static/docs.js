// A session's own requests are let through; for programs the page names the header.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger", deepLinking: true });
