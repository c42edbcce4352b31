"""The page of `deepcomp demo` in a browser: headless Chromium, where there is one."""

import shutil
import threading

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import demo
from deepcomp_tf import samples
from deepcomp_tf.codec.images import encode_png

pytest.importorskip("flask", reason="the extra demo is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.common.by import By  # pylint: disable=wrong-import-position
from selenium.webdriver.common.keys import Keys  # pylint: disable=wrong-import-position
from selenium.webdriver.support.ui import WebDriverWait  # pylint: disable=wrong-import-position
from werkzeug import serving  # pylint: disable=wrong-import-position

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium with a chromedriver")]


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
  """A photo, a broken file, and where the browser puts downloads."""
  folder = tmp_path_factory.mktemp("demo")
  (folder / "cat.png").write_bytes(encode_png(samples.photos(160)["chelsea"]))
  (folder / "broken.deepcomp").write_bytes(b"no bitstream")
  (folder / "downloads").mkdir()
  return folder


@pytest.fixture(name="browser", scope="module")
def fixture_browser(folder):
  server = serving.make_server(demo.HOST, 0, demo.make_app(), threaded=True)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1000",
                   "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"):  # nothing from elsewhere
    options.add_argument(argument)
  options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
  try:
    browser.get(f"http://{demo.HOST}:{server.port}/")
    yield browser
  finally:
    browser.quit()
    server.shutdown()
    thread.join()


def _wait(browser, condition):
  return WebDriverWait(browser, 120, 0.2).until(lambda _: condition())


def _upload(browser, path):
  browser.find_element(By.ID, "file").send_keys(str(path))


def _cards(browser):
  return browser.find_elements(By.TAG_NAME, "article")


def _all_cards(browser, name):
  _wait(browser, lambda: browser.find_element(By.ID, "status").text == name)
  return _cards(browser)


def test_a_photo_its_slider_its_file_and_the_file_again(browser, folder):
  _upload(browser, folder / "cat.png")
  cards = _all_cards(browser, "cat.png")
  assert [card.get_attribute("data-point") for card in cards] == dc.operating_points.names()
  data = dc.Codec.load("bpp0.330").compress(samples.photos(160)["chelsea"])
  assert f"{len(data):,} bytes" in cards[1].text and "no picture was decoded for this" in cards[1].text
  assert dc.Classifier.load_for(data).classify(data)[0][0] in cards[1].text
  # The slider, by keyboard; what is beside our picture, by a button.
  pair, slider = cards[1].find_element(By.CLASS_NAME, "pair"), cards[1].find_element(By.CSS_SELECTOR, "input[type=range]")
  slider.send_keys(Keys.ARROW_LEFT * 10)
  assert browser.execute_script("return arguments[0].style.getPropertyValue('--at')", pair) == "40%"
  upper = pair.find_element(By.CLASS_NAME, "upper")
  before = upper.get_attribute("src")
  cards[1].find_element(By.XPATH, ".//button[text()='WebP']").send_keys(Keys.ENTER)
  assert upper.get_attribute("src") != before and "right WebP" in cards[1].text
  cards[1].find_element(By.LINK_TEXT, "download the file").click()
  downloaded = folder / "downloads/bpp0.330.deepcomp"
  _wait(browser, downloaded.exists)
  assert downloaded.read_bytes() == data
  _upload(browser, downloaded)
  card, = _all_cards(browser, "bpp0.330.deepcomp")
  assert f"{len(data):,} bytes" in card.text and not card.find_elements(By.CSS_SELECTOR, "input[type=range]")


def test_what_is_wrong_is_said(browser, folder):
  _upload(browser, folder / "broken.deepcomp")
  status = browser.find_element(By.ID, "status")
  _wait(browser, lambda: status.get_attribute("class") == "error")
  assert status.text.startswith("broken.deepcomp: not a compressed image") and not _cards(browser)


def test_a_sample_on_a_phone_in_the_dark(browser):
  browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1,
                                                                 "mobile": True})
  browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
  browser.find_element(By.CSS_SELECTOR, "[data-sample=rocket]").send_keys(Keys.ENTER)
  assert len(_all_cards(browser, "rocket")) == 3
  assert browser.execute_script("return document.documentElement.scrollWidth <= 360")
  background = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
  text = browser.execute_script("return getComputedStyle(document.body).color")
  brightness = lambda color: np.mean([float(part) for part in color.split("(")[1].rstrip(")").split(",")[:3]])
  assert brightness(text) > 200 and (brightness(background) < 60 or background == "rgba(0, 0, 0, 0)")
  # Nothing was asked for elsewhere, and nothing went wrong unseen, but for the answer to the broken file.
  assert [line for line in browser.get_log("browser") if "/open" not in line["message"]] == []
