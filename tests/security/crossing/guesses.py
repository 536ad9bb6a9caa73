"""Names as people give them, which a stranger guesses from no more than the dictionary.

Invariant: none of them stands in a sentence that the services say, so that a refusal without the name is the same for all.
"""

# A tenant that is attacked has things by these names; so has one that is its neighbour.
COMMON = ("handbook", "contracts-2026")
GUESSES = (
    *COMMON,
    *("hr-policies", "customer-letters", "faq-en", "invoices", "minutes", "onboarding", "payroll", "price-list"),
    *("support-bot", "sales-assistant", "legal-v2", "summariser", "translator-de", "final-final", "champion"),
)
# Of tenants: the deployment's first one is always there.
TENANTS = ("default", "acme", "contoso", "globex", "initech")
