"""Evidence, measurements, and the run as data: one model, written as JSON, JUnit, Allure, HTML and lines of text."""
